mkdir d; echo 1 > d/a.txt; echo f > f; tar cf t.tar --owner=0 --group=0 d
