mkdir -p conf.d html/img; echo n > nginx.conf; echo s > conf.d/site.conf; echo i > html/index.html; echo g > html/img/g
