package awsjson

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// sdkPackage is where the structs live whose fields are the members of the wire.
const sdkPackage = "github.com/aws/aws-sdk-go-v2/service/ssm"

// layout says how one of the SDK's structs looks on the wire.
type layout struct {
	fields []field // in the SDK's order
	index  map[string]int
}

type field struct {
	name string // on the wire
	at   int    // of the struct's field
	// absent values are left out: nil, and "" for enums, where the SDK has no
	// pointer. Numbers and booleans without a pointer are always written.
	absent bool
}

// lowerCase has the structs whose members start lower-case on the wire.
var lowerCase = map[reflect.Type]bool{
	reflect.TypeFor[types.AssociationFilter]():         true,
	reflect.TypeFor[types.CommandFilter]():             true,
	reflect.TypeFor[types.DocumentFilter]():            true,
	reflect.TypeFor[types.InstanceInformationFilter](): true,
	reflect.TypeFor[types.InstancePropertyFilter]():    true,
	reflect.TypeFor[types.SessionFilter]():             true,
}

// unions has the SDK's interfaces of which one member is set, with the struct
// whose field Value holds it.
var unions = map[reflect.Type]map[string]reflect.Type{
	reflect.TypeFor[types.ExecutionInputs]():  {"Automation": reflect.TypeFor[types.ExecutionInputsMemberAutomation]()},
	reflect.TypeFor[types.ExecutionPreview](): {"Automation": reflect.TypeFor[types.ExecutionPreviewMemberAutomation]()},
	reflect.TypeFor[types.NodeType]():         {"Instance": reflect.TypeFor[types.NodeTypeMemberInstance]()},
}

// layouts caches one *layout per type; types that are not the SDK's have nil.
var layouts sync.Map // map[reflect.Type]*layout

func layoutOf(t reflect.Type) *layout {
	if found, ok := layouts.Load(t); ok {
		return found.(*layout)
	}
	var l *layout
	if t.Kind() == reflect.Struct && (t.PkgPath() == sdkPackage || strings.HasPrefix(t.PkgPath(), sdkPackage+"/")) {
		l = newLayout(t)
	}
	found, _ := layouts.LoadOrStore(t, l)
	return found.(*layout)
}

func newLayout(t reflect.Type) *layout {
	l := &layout{index: map[string]int{}}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() || f.Type == reflect.TypeFor[middleware.Metadata]() {
			continue
		}
		name := f.Name
		if lowerCase[t] {
			name = strings.ToLower(name[:1]) + name[1:]
		}
		absent := false
		switch f.Type.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.String:
			absent = true
		}
		l.index[name] = len(l.fields)
		l.fields = append(l.fields, field{name: name, at: i, absent: absent})
	}
	return l
}

// marshalStructure writes the SDK's structs and unions; v is a pointer to the
// value. All else is left to the json package.
func marshalStructure(enc *jsontext.Encoder, v any) error {
	value := reflect.ValueOf(v).Elem()
	if cases, ok := unions[value.Type()]; ok {
		return marshalUnion(enc, value, cases)
	}
	l := layoutOf(value.Type())
	if l == nil {
		return errors.ErrUnsupported
	}
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, f := range l.fields {
		member := value.Field(f.at)
		if f.absent && member.IsZero() {
			continue
		}
		if err := enc.WriteToken(jsontext.String(f.name)); err != nil {
			return err
		}
		if err := json.MarshalEncode(enc, member.Addr().Interface()); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}

func marshalUnion(enc *jsontext.Encoder, value reflect.Value, cases map[string]reflect.Type) error {
	if value.IsNil() {
		return enc.WriteToken(jsontext.Null)
	}
	for name, t := range cases {
		if value.Elem().Type() != reflect.PointerTo(t) || value.Elem().IsNil() {
			continue
		}
		if err := enc.WriteToken(jsontext.BeginObject); err != nil {
			return err
		}
		if err := enc.WriteToken(jsontext.String(name)); err != nil {
			return err
		}
		if err := json.MarshalEncode(enc, value.Elem().Elem().FieldByName("Value").Addr().Interface()); err != nil {
			return err
		}
		return enc.WriteToken(jsontext.EndObject)
	}
	return fmt.Errorf("%v is no member of %v", value.Elem().Type(), value.Type())
}

// unmarshalStructure reads the SDK's structs and unions; v points to the value.
func unmarshalStructure(dec *jsontext.Decoder, v any) error {
	value := reflect.ValueOf(v).Elem()
	cases, isUnion := unions[value.Type()]
	l := layoutOf(value.Type())
	if !isUnion && l == nil {
		return errors.ErrUnsupported
	}
	if dec.PeekKind() == 'n' {
		value.SetZero()
		return dec.SkipValue()
	}
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return err
		}
		return errors.New("not an object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	strict, _ := json.GetOption(dec.Options(), json.RejectUnknownMembers)
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		var target any
		name := token.String()
		if isUnion {
			if t, ok := cases[name]; ok {
				chosen := reflect.New(t)
				value.Set(chosen)
				target = chosen.Elem().FieldByName("Value").Addr().Interface()
			}
		} else if i, ok := l.index[name]; ok {
			target = value.Field(l.fields[i].at).Addr().Interface()
		}
		switch {
		case target != nil:
			err = json.UnmarshalDecode(dec, target)
		case strict:
			err = json.ErrUnknownName
		default:
			err = dec.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}
