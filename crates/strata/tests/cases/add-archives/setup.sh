mkdir -p t/d
echo f > t/d/f
ln -s f t/d/link
chmod 640 t/d/f
tar -C t --owner=5 --group=6 --numeric-owner --mtime=2020-01-01 --sort=name -cf plain.tar d
tar -C t --owner=0 --group=0 --numeric-owner --mtime=2020-01-01 --sort=name -cf - d | gzip -n > zipped.tar.gz
rm -r t
