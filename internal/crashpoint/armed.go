//go:build crashpoints

package crashpoint

import (
	"os"
	"strconv"
	"sync"
	"syscall"
)

// Variable is the environment variable with the number of steps that this process may take; the next
// step kills it. With the value "trace", the steps are printed on stderr.
const Variable = "SLIRPCTL_TEST_CRASH_AFTER"

var (
	mu    sync.Mutex
	taken int
)

// Here counts a step and kills the process if the limit is exceeded.
func Here(step string) {
	v := os.Getenv(Variable)
	if v == "" {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	taken++
	if v == "trace" {
		os.Stderr.WriteString("crashpoint " + strconv.Itoa(taken) + ": " + step + "\n")
		return
	}
	if n, err := strconv.Atoi(v); err == nil && taken > n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}
