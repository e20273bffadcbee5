package main

import (
	"fmt"
	"regexp"
)

// translations has the model's patterns that are Java's and not RE2's: they use
// look-ahead or repeat more than RE2 allows. A pattern matches a whole value, as
// the service's own check does.
var translations = map[string]string{
	// Not blank.
	`^(?!\s*$).+`: `.*\S.*`,
	// The shape's own length bounds say how many.
	`^.{1,100000}$`: `.+`,
	// RE2 repeats at most 1,000 times.
	`^https:\/\/[-a-zA-Z0-9@:%._\+~#=]{1,253}\.s3(\.[a-z\d-]{9,16})?\.amazonaws\.com\/.{1,2000}`: `https:\/\/[-a-zA-Z0-9@:%._\+~#=]{1,253}\.s3(\.[a-z\d-]{9,16})?\.amazonaws\.com\/.{1,1000}(.{1,1000})?`,
}

// translate returns the pattern as RE2 understands it, or an error that asks for
// an entry in translations.
func translate(pattern string) (string, error) {
	expression := pattern
	if translated, ok := translations[pattern]; ok {
		expression = translated
	}
	if _, err := regexp.Compile(`\A(?:` + expression + `)\z`); err != nil {
		return "", fmt.Errorf("pattern %q is not RE2, add a translation: %w", pattern, err)
	}
	return expression, nil
}
