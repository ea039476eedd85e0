package v1

import (
	"encoding/base64"
	"strings"
)

// Pages are cut by name, which is unique in a cluster: whatever comes and goes
// between two requests, no pod that is there all the time is left out or shown twice.

// pageVersion begins every page token, so that its form can change.
const pageVersion = "1:"

// maxPageToken is the length of a page token, in bytes, at the most.
const maxPageToken = 400

// pageToken stands for the page after a name.
func pageToken(last string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(pageVersion + last))
}

// parsePageToken returns the name after which a page begins.
func parsePageToken(token string) (string, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(token)
	name, ok := strings.CutPrefix(string(text), pageVersion)
	if err != nil || !ok || !podName(name) {
		return "", invalid("page_token is not one that this service has given: use next_page_token of the page before as it is")
	}
	return name, nil
}

// page cuts a page out of entries that are sorted by name: those after a name that
// match, at most limit of them. next is the token of the page after it, empty for none.
func page(entries []Entry, after string, limit int, matches func(Entry) bool) (cut []Entry, next string) {
	for _, e := range entries {
		if e.Pod <= after || !matches(e) {
			continue
		}
		if len(cut) == limit {
			return cut, pageToken(cut[limit-1].Pod)
		}
		cut = append(cut, e)
	}
	return cut, ""
}
