rm -f setup.sh.x; echo h > .hidden; echo a > a.txt; echo b > b.log; echo c > c.txt; echo xa > xa; mkdir -p d1 d2 .hd; echo 1 > d1/f1; echo 2 > d2/f2; echo n > d2/n; echo hd > .hd/in
