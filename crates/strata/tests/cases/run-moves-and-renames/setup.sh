mkdir -p t/d/e; echo a > t/a; echo b > t/d/b; echo c > t/d/e/c
