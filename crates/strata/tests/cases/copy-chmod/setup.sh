mkdir -p t/sub
echo f > t/f; echo x > t/x; chmod 700 t/x; ln -s f t/link; ln -s /nowhere t/dang
chmod 2750 t/sub; echo g > t/sub/g; chmod 6711 t/sub/g; mkfifo t/fifo
