package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fits tells whether a value is of a parameter's type.
func fits(parameterType string, value any) bool {
	list, isList := value.([]any)
	switch parameterType {
	case TypeString:
		_, ok := value.(string)
		return ok
	case TypeStringList:
		return isList && !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(string); return !ok })
	case typeInteger:
		number, _ := value.(json.Number)
		_, err := number.Int64()
		return err == nil
	case typeBoolean:
		_, ok := value.(bool)
		return ok
	case typeStringMap:
		_, ok := value.(map[string]any)
		return ok
	case typeMapList:
		return isList && !slices.ContainsFunc(list, func(v any) bool { _, ok := v.(map[string]any); return !ok })
	}
	return false
}

// parseText reads a value that is given as JSON text.
func parseText(text string) (any, bool) {
	n, err := parse([]byte(text), JSON)
	if err != nil {
		return nil, false
	}
	return n.value(), true
}

// textOf is a value inside a longer text: compact JSON, if it is no string.
func textOf(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "" // cannot be: value comes from JSON
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// parse makes a value of the parameter's type of what a command gives: a list of
// strings, for every type.
func (p *Parameter) parse(given []string) (any, bool) {
	if len(given) == 1 && storeReference.MatchString(given[0]) {
		return given[0], true // what needs it refuses to run
	}
	if p.Type == TypeStringList {
		list := make([]any, len(given))
		for i, s := range given {
			list[i] = s
		}
		return list, true
	}
	if p.Type == typeMapList && len(given) != 1 {
		list := make([]any, len(given))
		for i, s := range given {
			list[i], _ = parseText(s)
		}
		return list, fits(p.Type, list)
	}
	if len(given) != 1 {
		return nil, false
	}
	if p.Type == TypeString {
		return given[0], true
	}
	value, ok := parseText(given[0])
	if !ok {
		return nil, false
	}
	if _, single := value.(map[string]any); single && p.Type == typeMapList {
		value = []any{value}
	}
	return value, fits(p.Type, value)
}

// ParseMap reads a map that an input gives as text, in JSON or YAML, as
// documentParameters of aws:runDocument does; "" is an empty one. The error is a
// sentence.
func ParseMap(text string) (map[string]any, error) {
	if strings.TrimSpace(text) == "" {
		return map[string]any{}, nil
	}
	n, err := parse([]byte(text), YAML)
	if err != nil {
		return nil, err
	}
	if n.kind != '{' {
		return nil, n.errorf("There should be a map.")
	}
	return n.value().(map[string]any), nil
}

// Given makes of a map's values what a command gives for the parameters: lists of
// strings.
func Given(values map[string]any) map[string][]string {
	given := make(map[string][]string, len(values))
	for name, value := range values {
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		given[name] = make([]string, len(list))
		for i, item := range list {
			given[name][i] = textOf(item)
		}
	}
	return given
}

// CheckParameters checks what a command gives for the document's parameters. The
// error is one or more sentences, for whoever has given the values.
func (d *Document) CheckParameters(given map[string][]string) error {
	var problems []string
	for i := range d.Parameters {
		p := &d.Parameters[i]
		values, there := given[p.Name]
		if !there {
			if p.Default == nil {
				problems = append(problems, fmt.Sprintf("Parameter %q is required and not given.", p.Name))
			}
			continue
		}
		problems = append(problems, p.check(values)...)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if d.parameter(name) == nil {
			problems = append(problems, fmt.Sprintf("Parameter %q is not one of the document's, which are: %s.", name, d.parameterNames()))
		}
	}
	if problems == nil {
		return nil
	}
	return sentence(strings.Join(problems, " "))
}

func (d *Document) parameterNames() string {
	if len(d.Parameters) == 0 {
		return "none"
	}
	names := make([]string, len(d.Parameters))
	for i := range d.Parameters {
		names[i] = d.Parameters[i].Name
	}
	return strings.Join(names, ", ")
}

// check returns what is wrong with the given values.
func (p *Parameter) check(given []string) []string {
	refuse := func(format string, args ...any) []string {
		return []string{fmt.Sprintf("Parameter %q ", p.Name) + fmt.Sprintf(format, args...)}
	}
	if _, ok := p.parse(given); !ok {
		return refuse("%s", p.misfit(given))
	}
	if below(len(given), p.MinItems) {
		return refuse("must have at least %s, not %d.", count(*p.MinItems, "value"), len(given))
	}
	if beyond(len(given), p.MaxItems) {
		return refuse("must have at most %s, not %d.", count(*p.MaxItems, "value"), len(given))
	}
	for i, value := range given {
		which := "It is "
		if len(given) > 1 {
			which = fmt.Sprintf("Its value %d is ", i+1)
		}
		which += quoted(value) + "."
		switch characters := utf8.RuneCountInString(value); {
		case strings.ContainsRune(value, 0):
			return refuse("holds the character NUL, which no script can. %s", which)
		case storeReference.MatchString(value):
			continue // the value is known only where it runs
		case below(characters, p.MinChars):
			return refuse("must have at least %s. %s", count(*p.MinChars, "character"), which)
		case beyond(characters, p.MaxChars):
			return refuse("must have at most %s, not %d. %s", count(*p.MaxChars, "character"), characters, which)
		case p.AllowedValues != nil && !slices.Contains(p.AllowedValues, value):
			return refuse("must be one of: %s. %s", strings.Join(p.AllowedValues, ", "), which)
		case p.pattern != nil:
			if problem := p.pattern.refuses(value); problem != "" {
				return refuse("%s %s", fmt.Sprintf(problem, p.AllowedPattern), which)
			}
		}
	}
	return nil
}

// typeWords are what values of a type are, for sentences.
var typeWords = map[string]string{
	typeInteger: "a whole number", typeBoolean: "true or false", typeStringMap: "a map, in JSON", typeMapList: "a list of maps, in JSON",
}

// misfit says that values are not of the parameter's type.
func (p *Parameter) misfit(given []string) string {
	if p.Type == TypeString || len(given) != 1 && p.Type != typeMapList {
		return fmt.Sprintf("is %s %s and must have exactly one value, not %d.", article(p.Type), p.Type, len(given))
	}
	for i, value := range given {
		if _, ok := p.parse([]string{value}); !ok {
			which := "it is "
			if len(given) > 1 {
				which = fmt.Sprintf("its value %d is ", i+1)
			}
			return fmt.Sprintf("has a value that is not of its type %s, %s: %s%s.", p.Type, typeWords[p.Type], which, quoted(value))
		}
	}
	return fmt.Sprintf("has a value that is not of its type %s, %s.", p.Type, typeWords[p.Type])
}

func article(word string) string {
	if strings.HasPrefix(word, "I") {
		return "an"
	}
	return "a"
}

// mostQuoted is how many characters of a value a sentence shows.
const mostQuoted = 60

// quoted shows a value that whoever reads it has given.
func quoted(value string) string {
	if utf8.RuneCountInString(value) > mostQuoted {
		value = firstRunes(value, mostQuoted) + "…"
	}
	return strconv.Quote(value)
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

func below(n int, minimum *int) bool  { return minimum != nil && n < *minimum }
func beyond(n int, maximum *int) bool { return maximum != nil && n > *maximum }

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// values returns every parameter's value: what is given, where it fits, else the
// default.
func (d *Document) values(given map[string][]string) map[string]any {
	values := make(map[string]any, len(d.Parameters))
	for i := range d.Parameters {
		p := &d.Parameters[i]
		values[p.Name] = p.Default
		if texts, there := given[p.Name]; there && p.check(texts) == nil {
			values[p.Name], _ = p.parse(texts)
		}
	}
	return values
}
