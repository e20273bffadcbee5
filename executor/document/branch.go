package document

import (
	"slices"
	"strconv"
	"strings"
)

// operators of aws:branch, which compare a Variable with a value.
var operators = []string{
	"StringEquals", "EqualsIgnoreCase", "StartsWith", "EndsWith", "Contains",
	"NumericEquals", "NumericGreater", "NumericLesser", "NumericGreaterOrEquals", "NumericLesserOrEquals", "BooleanEquals",
}

// branch checks the choices of aws:branch.
func (a *automation) branch(s *runbookStep, inputs *node) error {
	choices := inputs.field("Choices")
	if choices == nil || choices.kind != '[' || len(choices.items) == 0 {
		return s.n.errorf("Choices should be a list that is not empty %s.", s.user())
	}
	for _, choice := range choices.items {
		if choice.kind != '{' {
			return choice.errorf("A choice should be a map %s.", s.user())
		}
		next := choice.field("NextStep")
		if next == nil || next.kind != '"' {
			return choice.errorf("Missing NextStep in a choice %s.", s.user())
		}
		if a.steps[next.text] == nil {
			return unknownStep(next, next.text, "NextStep", s.user())
		}
		if err := s.expression(choice, "NextStep"); err != nil {
			return err
		}
	}
	if other := inputs.field("Default"); other != nil && a.steps[other.textOr("")] == nil {
		return unknownStep(other, other.textOr(""), "Default", s.user())
	}
	return nil
}

// expression checks one condition: And, Or, Not, or a Variable and an operator.
// besides is what may stand beside it.
func (s *runbookStep) expression(n *node, besides string) error {
	if n.kind != '{' {
		return n.errorf("An expression should be a map %s.", s.user())
	}
	operator, variable := "", false
	for _, f := range n.fields {
		switch {
		case f.name == besides:
			continue
		case f.name == "Variable":
			variable = true
			continue
		case f.name == "And" || f.name == "Or":
			if f.value.kind != '[' || len(f.value.items) < 2 {
				return f.value.errorf("Expect at lease two expressions for operator: %s in step: %s. Provided: %d", f.name, s.name, len(f.value.items))
			}
			for _, item := range f.value.items {
				if err := s.expression(item, ""); err != nil {
					return err
				}
			}
		case f.name == "Not":
			if err := s.expression(f.value, ""); err != nil {
				return err
			}
		case !slices.Contains(operators, f.name):
			return f.value.errorf("Unknown operator: %s %s.", f.name, s.user())
		default:
			if err := s.operand(f.name, f.value); err != nil {
				return err
			}
		}
		if operator != "" {
			return f.value.errorf("An expression has one operator, but this has %s and %s %s.", operator, f.name, s.user())
		}
		operator = f.name
	}
	logical := slices.Contains([]string{"And", "Or", "Not"}, operator)
	switch {
	case operator == "":
		return n.errorf("Missing operator in an expression %s.", s.user())
	case !logical && !variable:
		return n.errorf("Missing Variable in an expression %s.", s.user())
	case logical && variable:
		return n.errorf("The operator %s has no Variable %s.", operator, s.user())
	}
	return nil
}

func (s *runbookStep) operand(operator string, value *node) error {
	text, ok := value.scalar()
	if hasReference(value) {
		return nil
	}
	if strings.HasPrefix(operator, "Numeric") {
		_, err := strconv.ParseFloat(text, 64)
		ok = ok && err == nil
	}
	if operator == "BooleanEquals" {
		ok = ok && (strings.EqualFold(text, "true") || strings.EqualFold(text, "false"))
	}
	if !ok {
		return value.errorf("The operator %s cannot compare with this value %s.", operator, s.user())
	}
	return nil
}

// maxIterations is SSM's limit for aws:loop.
const maxIterations = 100

// loop checks the rest of aws:loop; its steps are checked like all others.
func (a *automation) loop(s *runbookStep, inputs *node) error {
	if steps := inputs.field("Steps"); steps == nil || len(steps.items) == 0 {
		return s.n.errorf("Steps should be a list that is not empty %s.", s.user())
	}
	if condition := inputs.field("LoopCondition"); condition != nil {
		if err := s.expression(condition, ""); err != nil {
			return err
		}
	}
	limit := inputs.field("MaxIterations")
	if limit == nil || hasReference(limit) {
		return nil
	}
	if n, err := strconv.Atoi(limit.text); err != nil || n < 1 || n > maxIterations {
		return limit.errorf("MaxIterations should be a number from 1 to %d %s.", maxIterations, s.user())
	}
	return nil
}
