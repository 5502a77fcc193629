mkdir -p t/sub dir
echo f > t/sub/f; ln -s f t/sub/l; ln t/sub/f t/sub/h; chmod 4750 t/sub/f; chmod 700 t/sub
T="tar -C t --owner=3 --group=4 --numeric-owner --mtime=2020-01-01 --sort=name"
$T -cf a.tar .
gzip -nk a.tar; bzip2 -k a.tar; zstd -q a.tar
echo hello | gzip -n > a.gz
tar -cf empty.tar -T /dev/null
echo text > text.tar; : > empty.file
cp a.tar dir/; rm -r t
