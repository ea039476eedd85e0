package app

import "berth/pkg/kube"

// names is how many names there are for the pods that a user has of a manifest: the plain
// one and nine with a suffix.
const names = kube.MaxNumber + 1

// holder is who has a name.
type holder int

const (
	nobody holder = iota
	// same is the user who asks for a name.
	same
	another
)

// firstName returns the first name that nobody has for a pod of a user's, of a manifest
// with the name base: one of the plain ones, else one in place of a plain one that is
// another's. So a user gets a name while less than ten are the user's own, whatever
// others do whose ids make the same names. It returns no name when there is none.
//
// It asks has about each name that comes into question, up to the one that it
// returns, and returns the error of that.
func firstName(base, user string, has func(name string) (holder, error)) (string, error) {
	var others []int
	for n := range names {
		name := kube.Name(base, user, n)
		switch who, err := has(name); {
		case err != nil:
			return "", err
		case who == nobody:
			return name, nil
		case who == another:
			others = append(others, n)
		}
	}
	for _, n := range others {
		name := kube.NameTaken(base, user, n)
		if who, err := has(name); err != nil || who == nobody {
			return name, err
		}
	}
	return "", nil
}
