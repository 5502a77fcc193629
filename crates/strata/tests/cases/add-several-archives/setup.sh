echo 1 > one; echo 2 > two; echo p > plain; tar cf a.tar --owner=0 --group=0 one; tar cf b.tar --owner=0 --group=0 two one; rm one two
