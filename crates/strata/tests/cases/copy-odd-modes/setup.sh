mkdir -p t/empty t/sub/empty2 t/closed h
chmod 1777 t/empty; chmod 000 t/closed; chmod 2775 t/sub
echo s > t/setuid; chmod 6755 t/setuid; echo n > t/none; chmod 000 t/none; echo w > t/all; chmod 777 t/all
truncate -s 1000000 t/holes; printf x >> t/holes; : > t/zero
mkfifo t/fifo
chown 5:6 t/all; chown 7:8 t/sub
echo h > h1; ln h1 h2; echo i > h/i
