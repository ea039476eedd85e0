package licensing

import (
	"encoding/json"
	"strings"

	"berth/pkg/events"
	"berth/pkg/license/wire"
)

// machineMembers are the members of a quota whose texts are written into the pod as they are, like a patch.
func machineMembers() []string { return []string{"gpu", "dedicated_vm"} }

// Machine returns what of a license's quota is written into the pod as it is, but for the patch: an object with its gpu and
// dedicated_vm alone. It is nil where the license has neither.
func Machine(l wire.License) json.RawMessage {
	all, machine := members(l.Quota), map[string]json.RawMessage{}
	for _, name := range machineMembers() {
		if value := all[name]; len(value) > 0 && value[0] == '{' {
			machine[name] = value
		}
	}
	if len(machine) == 0 {
		return nil
	}
	text, err := json.Marshal(machine)
	if err != nil {
		return nil // They come out of a JSON text.
	}
	return text
}

// Plain is a license's quota without what is written into the pod as it is: patch, gpu and dedicated_vm. What is no JSON object stays.
func Plain(gives json.RawMessage) json.RawMessage {
	all := members(gives)
	if all == nil {
		return gives
	}
	for _, name := range append(machineMembers(), "patch") {
		delete(all, name)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return gives // They come out of a JSON text.
	}
	return text
}

// SameMachine says that two licenses have the same gpu and dedicated_vm.
func SameMachine(l, saved wire.License) bool { return sameJSON(Machine(l), Machine(saved)) }

// MachineFault says that a license's gpu or dedicated_vm makes a pod that cannot be used.
func MachineFault(l wire.License, wrong string) error {
	var fields []string
	for _, name := range machineMembers() {
		if members(Machine(l))[name] != nil {
			fields = append(fields, "quota."+name)
		}
	}
	return &Fault{events.LicenseInvalid, "license " + naming(l) + ": " + strings.Join(fields, " or ") + ": " + wrong}
}
