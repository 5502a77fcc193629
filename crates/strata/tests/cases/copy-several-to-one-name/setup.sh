echo a > a; echo bb > b; echo a2 > a2; mkdir d e; echo a > d/a; echo b > e/b; echo n > n; tar --owner=0 --group=0 -cf t.tar n
