// Package awsjson is the wire codec of the API: AWS JSON 1.1 for the structs of
// aws-sdk-go-v2/service/ssm, in both directions, and for those of agent/meshapi.
// Nothing else in the program knows the wire form.
//
//   - codec: Marshal and Unmarshal. Member names are field names (but the six old
//     filter shapes, which start lower-case), timestamps are epoch seconds with
//     milliseconds, nil members are left out.
//   - model: the constraint table in model_gen.go, which the command in gen derives
//     from the public service model; Validate checks an input against it.
//   - sensitive: what the model marks so; Validate's messages never show its value
//     and Mask replaces it.
package awsjson
