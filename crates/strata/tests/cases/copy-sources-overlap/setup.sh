mkdir -p a/d b/d; echo a > a/same; echo b > b/same; echo a > a/d/x; echo b > b/d/x; chmod 700 a/d; chmod 775 b/d; echo only > a/only
