mkdir d
echo y > d/x
chmod 700 d/x
echo z > d/y
chmod 644 d/y
