chmod 4755 tool
chmod 600 a.txt
chmod 1777 dir/sub
