mkdir -p d deep
echo f > f; echo in > d/in
ln -s f l-file; ln -s d l-dir; ln -s l-file l-chain; ln -s /f l-abs; ln -s ../../../f l-up; ln -s .. deep/l-up; ln -s ../d deep/l-d
