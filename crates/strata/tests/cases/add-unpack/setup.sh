echo f > f; tar --owner=0 --group=0 --numeric-owner --mode=644 --mtime=2020-01-01 -cf a.tar f; rm f
