mkdir -p t/d7 t/d5; for m in 0644 0600 0755 0711 4755 2755 1644 0000 0444; do echo $m > t/f$m; chmod $m t/f$m; done; chmod 700 t/d7; chmod 555 t/d5; echo 6 > t/f6; chmod 666 t/f6
