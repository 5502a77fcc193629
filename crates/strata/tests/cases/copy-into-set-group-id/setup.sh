echo a > f; mkdir -p d/e/g; echo b > d/e/b; chmod 2711 d/e
tar --owner=5 --group=5 -cf t.tar d/e/g f
