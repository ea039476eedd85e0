package proc

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// Claim makes a folder, with the rights mode, and locks it for this process. It returns inUse while another one, or
// an earlier call, has it locked. The lock is the caller's to close; it ends with the process, whatever happens to that.
func Claim(dir string, mode os.FileMode, inUse error) (lock *os.File, err error) {
	if err := os.MkdirAll(dir, mode); err != nil {
		return nil, err
	}
	lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = inUse
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}
