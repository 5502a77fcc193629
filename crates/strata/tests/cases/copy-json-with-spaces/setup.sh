echo 1 > "a b.txt"; mkdir "c d"; echo 2 > "c d/e f"; echo x > x; echo y > "[x]"
