// Package auth decides who sent an API request: it checks AWS Signature Version 4
// by signing the request again with the SDK's own signer and comparing.
//
// Glossary. An access key is an id, which travels, and a secret, which does not.
// The credential scope of a signature names day, region and service; the service
// must be ssm, the region may be any. The signed headers are those that the
// signature covers; what decides over a request must be among them. A principal
// is a caller whose signature was right.
//
// Everything here is a function of values and a now; where keys are kept is the
// caller's business. Errors for the client are smithy.APIError values with the
// names that SSM clients know, all of them HTTP 400.
package auth
