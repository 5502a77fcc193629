mkdir -p tree/link2
ln -s elsewhere tree/loop-f
echo x > tree/dangling
rm Dockerfile.x 2>/dev/null || true
