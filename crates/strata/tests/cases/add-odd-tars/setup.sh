mkdir -p t/d t/link t/dev
echo new > t/f; echo in > t/link/in; echo d > t/d/n; chmod 755 t/d; mkfifo t/fifo; mknod t/dev/null c 1 3; ln -s /abs t/abslink; ln -s ../../../etc t/uplink
setfattr -n user.note -v hi t/f; echo c > t/cap; setcap cap_net_raw+ep t/cap; chmod 6755 t/d/n
tar -C t --xattrs --xattrs-include='*' --owner=someone:123 --group=grp:456 --mtime=2020-01-01 --sort=name -cf odd.tar f link d fifo dev abslink uplink cap
mkdir -p n/a/b; chmod 700 n/a; echo n > n/a/b/f
tar -C n --mtime=2020-01-01 --no-recursion -cf noparents.tar a/b/f
echo 1 > n/x; tar -C n --mtime=2020-01-01 -cf dup.tar x; rm n/x; mkdir n/x; echo 2 > n/x/y; tar -C n --mtime=2020-01-01 -rf dup.tar x; echo 3 > n/x/y; tar -C n --mtime=2020-01-01 -rf dup.tar x/y
rm -r t n
