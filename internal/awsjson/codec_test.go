package awsjson

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// filler makes random values. Times are multiples of tick; a type that contains
// itself does so twice at most.
type filler struct {
	*rand.Rand
	tick   time.Duration
	within map[reflect.Type]int
}

func newFiller(seed uint64, tick time.Duration) *filler {
	return &filler{rand.New(rand.NewPCG(seed, 1)), tick, map[reflect.Type]int{}}
}

// fill sets v and what it contains to random values that are there: nothing is
// nil, empty or zero.
func (r *filler) fill(v reflect.Value) {
	if cases, ok := unions[v.Type()]; ok {
		for _, t := range cases {
			chosen := reflect.New(t)
			r.fill(chosen.Elem().FieldByName("Value"))
			v.Set(chosen)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		switch v.Type() {
		case reflect.TypeFor[time.Time]():
			v.Set(reflect.ValueOf(time.UnixMilli(r.Int64N(4e12)).UTC().Truncate(r.tick)))
			return
		case reflect.TypeFor[middleware.Metadata]():
			return
		}
		r.within[v.Type()]++
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && r.within[element(f.Type)] < 2 {
				r.fill(v.Field(i))
			}
		}
		r.within[v.Type()]--
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		r.fill(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(r.text()))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			r.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			value := reflect.New(v.Type().Elem()).Elem()
			r.fill(value)
			v.SetMapIndex(reflect.ValueOf(r.text()).Convert(v.Type().Key()), value)
		}
	case reflect.String:
		v.SetString(r.text())
	case reflect.Int32:
		v.SetInt(1 + int64(r.Int32N(1<<31-2)))
	case reflect.Int64:
		v.SetInt(1 + r.Int64N(1<<53))
	case reflect.Float64:
		v.SetFloat(r.Float64() + 1)
	case reflect.Bool:
		v.SetBool(true)
	default:
		panic(fmt.Sprintf("no random %v", v.Type()))
	}
}

func element(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	return t
}

func (r *filler) text() string {
	alphabet := []rune("abcXYZ019 \"\\/\n\t<>&é漢🙂\u2028\x01")
	text := make([]rune, 1+r.IntN(12))
	for i := range text {
		text[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(text)
}

// wire is an HTTP transport that keeps the request's body and answers with reply.
type wire struct {
	target string
	body   []byte
	reply  []byte
}

func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	w.target = request.Header.Get("X-Amz-Target")
	var err error
	if w.body, err = io.ReadAll(request.Body); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, ContentLength: int64(len(w.reply)),
		Body: io.NopCloser(bytes.NewReader(w.reply)), Request: request,
	}, nil
}

func newClient(w *wire) *ssm.Client {
	return ssm.New(ssm.Options{
		Region: "mesh-1", BaseEndpoint: aws.String("https://127.0.0.1:7947"), HTTPClient: &http.Client{Transport: w},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, nil
		}),
	})
}

func method(t *testing.T, client *ssm.Client, operation string) (call reflect.Value, input, output reflect.Type) {
	t.Helper()
	call = reflect.ValueOf(client).MethodByName(operation)
	if !call.IsValid() {
		t.Fatalf("the SDK has no operation %s", operation)
	}
	return call, call.Type().In(1).Elem(), call.Type().Out(0).Elem()
}

func canonical(t *testing.T, data []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("not JSON: %v: %s", err, data)
	}
	return v
}

// TestSDKUnderstands puts every input and output of every operation through the
// SDK's own serializer and deserializer: our wire form of an input is the SDK's,
// we read the SDK's, and the SDK reads our outputs.
func TestSDKUnderstands(t *testing.T) {
	for _, operation := range Operations() {
		t.Run(operation, func(t *testing.T) {
			// The SDK cuts a time that binary fractions do not hold by a millisecond.
			r := newFiller(uint64(len(operation)), 125*time.Millisecond)
			for range 3 {
				w := &wire{}
				call, inputType, outputType := method(t, newClient(w), operation)
				input, output := reflect.New(inputType), reflect.New(outputType)
				r.fill(input.Elem())
				r.fill(output.Elem())

				ours, err := Marshal(output.Interface())
				if err != nil {
					t.Fatal(err)
				}
				w.reply = ours
				results := call.Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
				if err, _ := results[1].Interface().(error); err != nil {
					t.Fatalf("the SDK does not understand: %v: %s", err, ours)
				}
				read := results[0]
				if metadata := read.Elem().FieldByName("ResultMetadata"); metadata.IsValid() {
					metadata.SetZero()
				}
				if !reflect.DeepEqual(read.Interface(), output.Interface()) {
					t.Errorf("the SDK reads another output from %s", ours)
				}

				if w.target != "AmazonSSM."+operation {
					t.Errorf("target is %s", w.target)
				}
				sent, err := Marshal(input.Interface())
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(canonical(t, sent), canonical(t, w.body)) {
					t.Errorf("the SDK sends\n%s\nwe would send\n%s", w.body, sent)
				}
				got := reflect.New(inputType)
				if err := UnmarshalStrict(w.body, got.Interface()); err != nil {
					t.Fatalf("we do not understand the SDK: %v: %s", err, w.body)
				}
				if !reflect.DeepEqual(got.Interface(), input.Interface()) {
					t.Errorf("we read another input from %s", w.body)
				}
			}
		})
	}
}

func TestRoundTripAndDeterminism(t *testing.T) {
	client := newClient(&wire{})
	r := newFiller(2, time.Millisecond)
	for _, operation := range Operations() {
		_, inputType, outputType := method(t, client, operation)
		for _, structure := range []reflect.Type{inputType, outputType} {
			value := reflect.New(structure)
			r.fill(value.Elem())
			data, err := Marshal(value.Interface())
			if err != nil {
				t.Fatal(err)
			}
			again, err := Marshal(value.Interface())
			if err != nil || !bytes.Equal(data, again) {
				t.Fatalf("%v: not deterministic (%v)", structure, err)
			}
			got := reflect.New(structure)
			if err := UnmarshalStrict(data, got.Interface()); err != nil {
				t.Fatalf("%v: %v: %s", structure, err, data)
			}
			if !reflect.DeepEqual(got.Interface(), value.Interface()) {
				t.Errorf("%v: changed by a round trip", structure)
			}
			// The zero value of an input says nothing but its plain numbers and
			// booleans, and is read back as itself.
			data, err = Marshal(reflect.New(structure).Interface())
			if err != nil || strings.Contains(string(data), "null") {
				t.Errorf("%v: zero value is %s (%v)", structure, data, err)
			}
		}
	}
}

func TestMarshalForm(t *testing.T) {
	at := time.UnixMilli(1700000000120).UTC()
	for name, c := range map[string]struct {
		value any
		want  string
	}{
		"zero number and empty list": {&ssm.ListCommandsOutput{Commands: []types.Command{{CommandId: aws.String("x")}}, NextToken: aws.String("")},
			`{"Commands":[{"CommandId":"x","CompletedCount":0,"DeliveryTimedOutCount":0,"ErrorCount":0,"TargetCount":0}],"NextToken":""}`},
		"nil members":       {&ssm.CancelCommandOutput{}, `{}`},
		"empty list":        {&ssm.CancelCommandInput{InstanceIds: []string{}}, `{"InstanceIds":[]}`},
		"old filter":        {&ssm.ListCommandsInput{Filters: []types.CommandFilter{{Key: "Status", Value: aws.String("Failed")}}}, `{"Filters":[{"key":"Status","value":"Failed"}]}`},
		"old filter set":    {&types.InstanceInformationFilter{Key: "PingStatus", ValueSet: []string{"Online"}}, `{"key":"PingStatus","valueSet":["Online"]}`},
		"new filter":        {&types.InstanceInformationStringFilter{Key: aws.String("k"), Values: []string{"v"}}, `{"Key":"k","Values":["v"]}`},
		"time":              {&types.Activation{CreatedDate: &at}, `{"CreatedDate":1700000000.12,"Expired":false}`},
		"blob":              {&types.MaintenanceWindowLambdaParameters{Payload: []byte{0, 1, 255}}, `{"Payload":"AAH/"}`},
		"union":             {&types.Node{NodeType: &types.NodeTypeMemberInstance{Value: types.InstanceInfo{AgentType: aws.String("a")}}}, `{"NodeType":{"Instance":{"AgentType":"a"}}}`},
		"map":               {&ssm.SendCommandInput{Parameters: map[string][]string{"b": {"2"}, "a": {"1"}}}, `{"Parameters":{"a":["1"],"b":["2"]}}`},
		"invalid UTF-8":     {&ssm.GetCommandInvocationOutput{StandardOutputContent: aws.String("a\xffb")}, `{"ResponseCode":0,"StandardOutputContent":"a` + "\uFFFD" + `b"}`},
		"before the epoch":  {&types.Activation{CreatedDate: aws.Time(time.UnixMilli(-1500))}, `{"CreatedDate":-1.5,"Expired":false}`},
		"nanoseconds floor": {&types.Activation{CreatedDate: aws.Time(time.Unix(5, 1999999))}, `{"CreatedDate":5.001,"Expired":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := Marshal(c.value)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(canonical(t, data), canonical(t, []byte(c.want))) {
				t.Errorf("got  %s\nwant %s", data, c.want)
			}
		})
	}
	if _, err := Marshal(&types.Node{NodeType: &types.UnknownUnionMember{}}); err == nil {
		t.Error("an unknown union member is written")
	}
}

func TestUnmarshalRefusals(t *testing.T) {
	for name, c := range map[string]struct{ body, says string }{
		"empty":             {``, "malformed"},
		"cut off":           {`{"CommandId":"x"`, "malformed JSON at byte 16"},
		"trailing":          {`{} {}`, "malformed"},
		"not an object":     {`[]`, "the top"},
		"duplicate":         {`{"CommandId":"x","CommandId":"y"}`, "'/CommandId' is there twice"},
		"number for string": {`{"CommandId":1}`, "'/CommandId'"},
		"string for number": {`{"MaxResults":"1"}`, "'/MaxResults'"},
		"fraction":          {`{"MaxResults":1.5}`, "'/MaxResults'"},
		"too large":         {`{"MaxResults":2147483648}`, "'/MaxResults'"},
		"list for object":   {`{"Filters":[[]]}`, "'/Filters/0'"},
		"invalid UTF-8":     {"{\"CommandId\":\"\xff\"}", "malformed"},
		"deep":              {strings.Repeat(`{"Filters":`, 65) + "1" + strings.Repeat("}", 65), "deeper than 64"},
		"secret":            {`{"MaxResults":"hunter2"}`, "wrong type"},
	} {
		t.Run(name, func(t *testing.T) {
			var input ssm.ListCommandsInput
			assertSerialization(t, Unmarshal([]byte(c.body), &input), c.says)
		})
	}
	var input ssm.ListCommandsInput
	big := []byte(`{"CommandId":"` + strings.Repeat("x", maxSize) + `"}`)
	assertSerialization(t, Unmarshal(big, &input), "larger than")
	assertSerialization(t, UnmarshalStrict([]byte(`{"CommandID":"x"}`), &input), "'/CommandID' is unknown")
	for _, bad := range []string{`"2024-01-01T00:00:00Z"`, `1e30`, `true`, `-1e12`, `[]`} {
		var input ssm.CreateActivationInput
		assertSerialization(t, Unmarshal([]byte(`{"ExpirationDate":`+bad+`}`), &input), "'/ExpirationDate'")
	}
	var activation ssm.CreateActivationInput
	if err := Unmarshal([]byte(`{"ExpirationDate":1.7e9,"IamRole":null,"Later":[{"a":1}]}`), &activation); err != nil ||
		!activation.ExpirationDate.Equal(time.Unix(1700000000, 0)) || activation.IamRole != nil {
		t.Errorf("got %+v, %v", activation, err)
	}
}

func assertSerialization(t *testing.T, err error, says string) {
	t.Helper()
	var e *smithy.GenericAPIError
	if !errors.As(err, &e) || e.Code != "SerializationException" || !strings.Contains(e.Message, says) {
		t.Errorf("got %v, want a SerializationException with %q", err, says)
	}
	if strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Errorf("the error shows the value: %v", err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte(`{"DocumentName":"d","Targets":[{"Key":"tag:a","Values":["b"]}],"Parameters":{"commands":["x"]},"TimeoutSeconds":30}`))
	f.Add([]byte(`{"Filters":[{"key":"a","value":"b"}],"NextToken":null}`))
	f.Add([]byte(`{"ExpirationDate":1700000000.123}`))
	f.Add([]byte(`{"ExecutionInputs":{"Automation":{"TargetMaps":[{"a":["b"]}]}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, v := range []any{&ssm.SendCommandInput{}, &ssm.ListCommandsInput{}, &ssm.CreateActivationInput{},
			&ssm.StartExecutionPreviewInput{}} {
			if err := Unmarshal(body, v); err != nil {
				var e *smithy.GenericAPIError
				if !errors.As(err, &e) {
					t.Fatalf("not an API error: %v", err)
				}
				continue
			}
			data, err := Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			again := reflect.New(reflect.TypeOf(v).Elem())
			if err := Unmarshal(data, again.Interface()); err != nil {
				t.Fatalf("our own output is refused: %v: %s", err, data)
			}
			if twice, err := Marshal(again.Interface()); err != nil || !bytes.Equal(data, twice) {
				t.Fatalf("changed by a round trip (%v): %s, %s", err, data, twice)
			}
		}
	})
}
