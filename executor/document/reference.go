package document

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	// reference is {{ name }}. Braces around anything else are text: scripts have
	// their own use for them.
	reference      = regexp.MustCompile(`\{\{\s*([a-zA-Z0-9_]+)\s*\}\}`)
	wholeReference = regexp.MustCompile(`\A\{\{\s*([a-zA-Z0-9_]+)\s*\}\}\z`)
	// storeReference names a parameter of the Parameter Store.
	storeReference = regexp.MustCompile(`\{\{\s*ssm(?:-secure)?:[^{}]*\}\}`)
	// secureReference names a secret of the Parameter Store.
	secureReference = regexp.MustCompile(`\{\{\s*(ssm-secure:[^{}]*?)\s*\}\}`)
	// anyReference is whatever one of SSM's languages replaces.
	anyReference = regexp.MustCompile(`\{\{\s*([a-zA-Z0-9_]+|[a-zA-Z0-9_-]+:[^{}]*?|[a-zA-Z0-9_]+\.[^{}\s]*?)\s*\}\}`)
	// systemReference is {{ global:NAME }} and its kin, which only runbooks have.
	systemReference = regexp.MustCompile(`\{\{\s*((?:global|automation|variable):[a-zA-Z0-9_.]+)\s*\}\}`)
)

// hasReference tells whether a value is given at run time: nothing can be said of
// it when the document is created.
func hasReference(n *node) bool {
	return n.kind == '"' && anyReference.MatchString(n.text)
}

// walk calls visit with every text below n that may hold a reference, in maps'
// values and lists' elements, and its path.
func walk(n *node, path string, visit func(n *node, path string) error) error {
	if n.kind == '"' {
		return visit(n, path)
	}
	for i, item := range n.items {
		if item.mayRefer() {
			if err := walk(item, fmt.Sprintf("%s[%d]", path, i), visit); err != nil {
				return err
			}
		}
	}
	for _, f := range n.fields {
		if f.value.mayRefer() {
			if err := walk(f.value, strings.TrimPrefix(path+"."+f.name, "."), visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *node) mayRefer() bool {
	return n.kind == '[' || n.kind == '{' || strings.Contains(n.text, "{{")
}

// references refuses {{ name }} for what is no parameter, in all texts below n.
// user says what uses it: `in step "x"`.
func (c *checker) references(n *node, user, path string) error {
	return walk(n, path, func(n *node, path string) error { return c.parametersIn(n, user+" at "+path) })
}

// secureInputs are where a secret of the Parameter Store may come in. What
// aws:runDocument passes on is for the other document.
var secureInputs = map[string][]string{
	"aws:downloadContent":  {"sourceInfo"},
	"aws:configurePackage": {"additionalArguments"},
	"aws:runDocument":      {"documentParameters"},
}

// secrets refuses {{ssm-secure:name}} but where SSM's agent reads it.
func (step *Step) secrets(n *node, user, path string) error {
	return walk(n, path, func(n *node, at string) error {
		match := secureReference.FindStringSubmatch(n.text)
		if match == nil {
			return nil
		}
		input, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(at, path), "."), ".")
		if slices.ContainsFunc(secureInputs[step.Action], func(name string) bool { return strings.EqualFold(name, input) }) {
			return nil
		}
		return n.errorf("{{ %s }} cannot be used %s at %s: a secret of the Parameter Store may come into sourceInfo of aws:downloadContent and additionalArguments of aws:configurePackage only.", match[1], user, at)
	})
}

func (c *checker) parametersIn(n *node, where string) error {
	for _, at := range reference.FindAllStringSubmatchIndex(n.text, -1) {
		if name := n.text[at[2]:at[3]]; c.parameter(name) == nil {
			return n.errorIn(at[0], "Parameter %q is not declared. It is used %s.", name, where)
		}
	}
	if at := systemReference.FindStringSubmatchIndex(n.text); at != nil {
		return n.errorIn(at[0], "Parameter %q is not declared: only Automation documents have it. It is used %s.", n.text[at[2]:at[3]], where)
	}
	return nil
}
