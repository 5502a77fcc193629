mkdir -p .mvn/wrapper src; echo w > mvnw; chmod +x mvnw; echo p > pom.xml; echo j > .mvn/wrapper/j; echo A > src/A.java
