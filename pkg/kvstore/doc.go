// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package kvstore reads and writes key/value stores on a datastore, in the form of
// VIC's (VIC, pkg/kvstore/kvstore.go).
//
// The stores of a VCH are only read: its port layer has them in memory and overwrites
// the files. Nothing in this project keeps anything in a store of its own yet; writing
// and migration are here for what will.
//
// # Where things are
//
// All is in one directory. A store NAME has, for data of version 0:
//
//	NAME.dat                   the first generation, and the only one that VIC knows
//	NAME.dat.1, NAME.dat.2 ... the generations that followed; the newest one counts
//	NAME.dat.2-<32 digits>.tmp a generation that is being uploaded, and what it wants to become
//
// and the same with NAME.v4 for data of version 4. Each generation is a complete file
// of VIC's form and is never changed.
//
// # Why no update is lost, and none is done twice
//
// A writer reads the newest generation, uploads what follows, looks again that nothing
// followed meanwhile, and moves its upload to the next number, which vCenter does at once
// and only if there is none. So of many writers one has success; the others begin again
// with what he wrote. There is no lock, and nobody waits for a dead one.
//
// When a move is not answered with success, the writer renames its upload. If that works,
// the move never happened and never will. If the upload is gone, the generation tells whose
// it is: behind the object stands a line of blanks and tabs, drawn at random, which every
// reader of JSON passes over. What cannot be found out even so is ErrUnknown.
//
// Old generations are deleted by writers, and no slow writer can publish under a number
// that was used and deleted: a generation is deleted only if the same listing that showed it
// shows no upload any more that wants that number or a lower one. A writer whose upload is not
// in that listing sees in its second look, which comes after its upload, that the
// number was taken. This needs no clock. Beside that the eight before the newest stay, and whatever is
// not older than the newest by Options.Grace, by the datastore's own times. Uploads of dead writers
// are deleted by that age as well; if it is wrong, a live writer begins again.
//
// It rests on listings that show what was there when they were asked for; one that does not
// show the writer's own upload is not believed. A file that people delete or rename may
// cost what was in it.
//
// # Versions
//
// Migrate makes the file of a new version beside the old ones, which it never touches, so that an
// older program goes on with its data after an upgrade that failed. What an older program writes after
// that stays in its version: nobody may write during a migration.
package kvstore
