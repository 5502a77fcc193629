mkdir -p t/d/e; for p in t t/d t/d/e; do echo 1 > $p/f.txt; echo 2 > $p/f.md; done; ln -s f.txt t/l.txt
