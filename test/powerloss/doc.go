// Package powerloss tells what a power cut may leave of a program's files. The
// program runs as it is, with its own files and its own libraries, under strace;
// [Parse] reads which calls it made, in order, and [Disk] plays them on a model
// of a disk that keeps what was synced and owes nothing else: [Disk.Cut] makes
// one of the many states that a cut may leave at that moment, which a test writes
// out and opens with the real code. It is for tests only.
//
// The model is what POSIX promises and no more, which ext4, xfs and btrfs all
// keep:
//
//   - fsync and fdatasync of a file make what was written before durable, with
//     the file's length. They do not make its name durable.
//   - Names that were made, renamed or removed are durable after an fsync of
//     their directory. Before, each may be there or not, whatever the order.
//   - Of a write that was not synced any sectors of 512 or 4096 bytes may be on
//     the disk; where the file grew, others read as zeros. A sector is never torn.
//
// What a call in flight does may be there or not; an fsync in flight has done
// nothing yet.
package powerloss
