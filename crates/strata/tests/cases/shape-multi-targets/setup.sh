mkdir shared dev; echo s > shared/s; echo d > dev/d
