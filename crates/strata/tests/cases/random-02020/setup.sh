
printf a > a.txt; printf b > b.txt; printf c > c.sh; chmod 755 c.sh; printf s > suid; chmod 4755 suid; printf p > priv; chmod 600 priv
mkdir -p d/sub/deep d2/sub d3 empty priv.d tree/x/y/z tree/x/w
printf x > d/x; printf y > d/y.txt; printf z > d/sub/z; printf w > d/sub/deep/w; printf h > d/.hid
printf X > d2/x; printf Z > d2/sub/z2; printf q > d2/q.txt; chmod 640 d2/q.txt; chmod 711 d2/sub
printf 3 > d3/sub; printf pp > priv.d/f; chmod 600 priv.d/f; chmod 700 priv.d
printf 1 > tree/x/y/z/1.c; printf 2 > tree/x/y/2.c; printf 3 > tree/x/w/3.h; printf 4 > tree/4.c; chmod 1777 tree/x/w; chmod 2755 tree/x/y
ln -s a.txt lf; ln -s d ld; ln -s /etc/passwd labs; ln -s nope ldang; ln -s ../a.txt lup; ln -s ld lld; ln -s d/sub ldsub
ln -s ../b.txt d/inner; ln -s sub d/dirlink; ln -s /d2 d/absd2; ln -s ../.. d/sub/up
printf hard > h1; ln h1 h2; mkdir hl; ln h1 hl/h3; printf k > hl/k; ln hl/k hl/k2
printf sp > "sp ace.txt"; printf br > "[br].txt"; printf u > "é.txt"; printf bs > 'b*s'
mkdir -p tt/dir; printf t1 > tt/dir/f; printf t2 > tt/f2; ln -s dir tt/l; chmod 700 tt/dir; chmod 600 tt/f2
tar -C tt --sort=name --mtime=@0 --owner=5 --group=6 -cf t.tar . ; tar -C tt --sort=name --mtime=@0 --owner=7 --group=7 -c dir f2 l | gzip -n > t.tgz; rm -r tt
