for mode in 644 4755 000; do
  ln -s target link-$mode
  tar --format=ustar --owner=3 --group=4 --mtime=2020-01-01 --mode=$mode -cf $mode.tar link-$mode
  rm link-$mode
done
