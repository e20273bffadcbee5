package document

import "fmt"

// Codes of Error: SSM's names of the exceptions with which CreateDocument and
// UpdateDocument refuse a document.
const (
	CodeInvalidContent       = "InvalidDocumentContent"
	CodeInvalidSchemaVersion = "InvalidDocumentSchemaVersion"
	CodeMaxSizeExceeded      = "MaxDocumentSizeExceeded"
)

// Error is why a document is refused. It is shown to the one who wrote the
// document as it is, so Message begins and ends like a sentence.
type Error struct {
	Code    string // SSM's exception
	Message string // without the place
	// Line and Column are where in the content, from 1; 0 where that is not known.
	// Columns count characters.
	Line, Column int
}

// Error is the message with the place, as SSM writes it.
func (e *Error) Error() string {
	switch {
	case e.Line == 0:
		return e.Message
	case e.Column == 0:
		return fmt.Sprintf("%s at Line: %d", e.Message, e.Line)
	}
	return fmt.Sprintf("%s at Line: %d, Column: %d", e.Message, e.Line, e.Column)
}
