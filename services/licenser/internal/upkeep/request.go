package upkeep

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Action is what a hub asks of a project.
type Action string

// The actions.
const (
	Start   Action = "start"
	Stop    Action = "stop"
	Restart Action = "restart"
)

// ParseRequest reads what a hub has written into a project's action_request. done means that it is
// none, or one that is finished, and is to be left alone.
func ParseRequest(text json.RawMessage) (action Action, done bool, err error) {
	var request struct {
		Action   json.RawMessage `json:"action"`
		Finished json.RawMessage `json:"finished"`
	}
	if err := json.Unmarshal(text, &request); err != nil {
		return "", false, errors.New(`action_request is no JSON object: write it like {"action":"start"}`)
	}
	if f := string(request.Finished); f != "" && f != "null" && f != "false" {
		return "", true, nil
	}
	if err := json.Unmarshal(request.Action, &action); err != nil || action != Start && action != Stop && action != Restart {
		return "", false, fmt.Errorf("action_request: the action %.60s is unknown: write start, stop or restart", orNone(request.Action))
	}
	return action, false, nil
}

func orNone(text json.RawMessage) string {
	if len(text) == 0 {
		return "(none)"
	}
	return string(text)
}
