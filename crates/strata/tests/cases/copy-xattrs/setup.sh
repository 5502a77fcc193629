mkdir -p t/d
echo c > t/cap; setcap cap_net_raw+ep t/cap
