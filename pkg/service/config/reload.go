package config

// CheckReload returns why a configuration, valid by itself, must not take the place of another one in a service that
// runs: nil if it may.
//
// Without any silo the api serves every user to whoever is on its machine. A site with silos comes to that by a file
// that was emptied or not mounted rather than by intention, so it takes a restart. What else a reload may take
// away, the administrators' token too, shuts somebody out and lets nobody in; a token that has leaked must
// go at once.
func CheckReload(before, after Config) Faults {
	if len(before.Silos) > 0 && len(after.Silos) == 0 {
		return Faults{{Path: "silos", Message: "none is left, and then any caller on this machine may speak for any user; restart the services if that is meant"}}
	}
	return nil
}
