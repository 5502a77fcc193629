echo a > a; echo bb > b; echo a2 > a2; mkdir d e; echo a > d/a; echo b > e/b; echo n > n; tar cf t.tar n
