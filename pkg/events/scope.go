package events

// OwnFilter matches the records of one pod name that are of one user, whatever the
// two are.
func OwnFilter(cluster, pod, user string) string { return join(podsRoot, cluster, pod, user) + ".*" }

// ScopeFilter matches the records of one pod name that are of one user; empty text
// stands for any. What is read for a user is read with the user in the filter: a
// name is used again, and nobody shall see what another did under it.
func ScopeFilter(cluster, pod, user string) string {
	token := func(name string) string {
		if name == "" {
			return "*"
		}
		return Token(name)
	}
	return join(podsRoot, cluster) + "." + token(pod) + "." + token(user) + ".*"
}
