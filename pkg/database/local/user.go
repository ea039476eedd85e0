package local

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// dacOverride is CAP_DAC_OVERRIDE of capabilities(7).
const dacOverride = 1

// account is who the programs run as: PostgreSQL refuses to run as root.
type account struct {
	credential   *syscall.Credential // nil for whoever this process runs as
	capabilities []uintptr
}

// unprivileged returns who runs the programs. Under root that is the user postgres or nobody, who may pass through
// folders that are root's alone, where the server's folder lies in one.
func unprivileged(dir string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return account{}, fmt.Errorf("read user %s: %w", name, err)
		}
		a := account{credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		open, err := passable(filepath.Dir(dir))
		if err == nil && !open {
			a.capabilities = []uintptr{dacOverride}
		}
		return a, err
	}
	return account{}, errors.New("find a user to run PostgreSQL as, which refuses to run as root: there is neither postgres nor nobody")
}

// passable says whether everybody may pass through a folder and all above it.
func passable(dir string) (bool, error) {
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return false, err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return false, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true, nil
		}
		dir = parent
	}
}

// give makes a file or folder that account's.
func (a account) give(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Chown(path, int(a.credential.Uid), int(a.credential.Gid))
}
