mkdir -p d/sub; echo a > d/a.txt; echo s > d/sub/s.txt; ln -s d l
