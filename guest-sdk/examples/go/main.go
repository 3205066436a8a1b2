// Says what time it is and where, and ends with the exit code 5.
package main

import (
	"fmt"
	"os"
	"time"
)

func main() {
	start := time.Now()
	fmt.Printf("hello from %s, in Go, at %s\n", os.Getenv("HOSTNAME"), start.UTC().Format(time.RFC3339))
	time.Sleep(20 * time.Millisecond)
	fmt.Printf("slept %v, arguments %v\n", 20*time.Millisecond <= time.Since(start), os.Args[1:])
	os.Exit(5)
}
