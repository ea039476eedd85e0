package licensefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"berth/pkg/client"
	"berth/pkg/license/jsontext"
)

// Write returns a license as a YAML document that [Read] takes. What is only told of a license is left
// out. A patch that is a list is written as one.
func Write(l client.SiteLicense) ([]byte, error) {
	document := &yaml.Node{Kind: yaml.MappingNode}
	put := func(name string, value *yaml.Node) {
		document.Content = append(document.Content, textNode(name), value)
	}
	for _, field := range []struct{ name, value string }{{"id", l.ID}, {"title", l.Title}, {"description", l.Description}} {
		if field.value != "" {
			put(field.name, textNode(field.value))
		}
	}
	for _, field := range []struct {
		name string
		at   *time.Time
	}{{"activates", l.Activates}, {"expires", l.Expires}} {
		if field.at != nil {
			put(field.name, textNode(field.at.UTC().Format(time.RFC3339Nano)))
		}
	}
	for _, field := range []struct {
		name string
		text json.RawMessage
	}{{"quota", l.Quota}, {"upgrades", l.Upgrades}} {
		if isUnset(field.text) {
			continue
		}
		node, err := fromJSON(field.text, field.name)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", field.name, err)
		}
		put(field.name, node)
	}
	if l.RunLimit != nil {
		put("run_limit", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(*l.RunLimit)})
	}
	if len(l.Managers) > 0 {
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, one := range l.Managers {
			list.Content = append(list.Content, textNode(one))
		}
		put("managers", list)
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(document), encoder.Close()); err != nil {
		return nil, fmt.Errorf("write license: %w", err)
	}
	return out.Bytes(), nil
}

func isUnset(text json.RawMessage) bool {
	return len(text) == 0 || string(bytes.TrimSpace(text)) == "null"
}

func textNode(value string) *yaml.Node {
	node := &yaml.Node{}
	node.SetString(value)
	return node
}

// fromJSON makes YAML of JSON: members in their order, numbers digit by digit.
func fromJSON(text json.RawMessage, path string) (*yaml.Node, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return nodeOf(decoder, path)
}

func nodeOf(decoder *json.Decoder, path string) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	switch value := token.(type) {
	case json.Delim:
		return collectionOf(decoder, value, path)
	case string:
		if path == patchPath {
			if list, err := patchOf(value); err == nil {
				return list, nil
			}
		}
		return textNode(value), nil
	case json.Number:
		tag := "!!int"
		if strings.ContainsAny(value.String(), ".eE") {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value)}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	}
}

func collectionOf(decoder *json.Decoder, kind json.Delim, path string) (*yaml.Node, error) {
	node := &yaml.Node{Kind: yaml.SequenceNode}
	if kind == '{' {
		node.Kind = yaml.MappingNode
	}
	seen := map[string]bool{}
	for decoder.More() {
		at := path + "[]"
		if node.Kind == yaml.MappingNode {
			token, err := decoder.Token()
			if err != nil {
				return nil, fmt.Errorf("read JSON: %w", err)
			}
			key, _ := token.(string)
			if seen[key] {
				return nil, fmt.Errorf("%s.%.40s is there twice", path, key)
			}
			seen[key] = true
			node.Content = append(node.Content, textNode(key))
			at = path + "." + key
		}
		item, err := nodeOf(decoder, at)
		if err != nil {
			return nil, err
		}
		node.Content = append(node.Content, item)
	}
	if _, err := decoder.Token(); err != nil { // The end.
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return node, nil
}

var errNoList = errors.New("the patch is no list")

// patchOf returns the list that a patch is, an error for what would not be the same as a list.
func patchOf(text string) (*yaml.Node, error) {
	if !json.Valid([]byte(text)) || jsontext.Broken([]byte(text)) != "" || !strings.HasPrefix(strings.TrimSpace(text), "[") {
		return nil, errNoList
	}
	return fromJSON(json.RawMessage(text), "")
}
