#include "go_asm.h"
#include "textflag.h"

// func entry()
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0-0
	SUB	$16, RSP // struct rlimit; no limit, should that not be told
	MOVD	$-1, R2
	MOVD	R2, 0(RSP)
	MOVD	R2, 8(RSP)
	MOVD	$9, R0 // RLIMIT_AS
	MOVD	RSP, R1
	MOVD	$163, R8 // SYS_getrlimit
	SVC
	MOVD	$·noSpace(SB), R9
	MOVD	0(RSP), R2
	MOVD	$const_minSpace, R3
	CMP	R3, R2
	BLO	fail
	MOVD	$7, R0 // RLIMIT_NOFILE, of which the runtime takes the hard one
	MOVD	RSP, R1
	MOVD	$163, R8
	SVC
	MOVD	$·noFiles(SB), R9
	MOVD	8(RSP), R2
	CMP	$const_minFiles, R2
	BLO	fail
	ADD	$16, RSP
	JMP	_rt0_arm64_linux(SB)
fail:
	MOVD	$2, R0
	MOVD	0(R9), R1
	MOVD	8(R9), R2
	MOVD	$64, R8 // SYS_write
	SVC
	MOVD	$const_failed, R0
	MOVD	$94, R8 // SYS_exit_group
	SVC
	UNDEF
