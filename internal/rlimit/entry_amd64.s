#include "go_asm.h"
#include "textflag.h"

// func entry()
TEXT ·entry(SB), NOSPLIT|NOFRAME, $0-0
	SUBQ	$16, SP // struct rlimit; no limit, should that not be told
	MOVQ	$-1, 0(SP)
	MOVQ	$-1, 8(SP)
	MOVQ	$9, DI // RLIMIT_AS
	MOVQ	SP, SI
	MOVQ	$97, AX // SYS_getrlimit
	SYSCALL
	LEAQ	·noSpace(SB), BX
	MOVQ	0(SP), CX
	CMPQ	CX, $const_minSpace
	JCS	fail
	MOVQ	$7, DI // RLIMIT_NOFILE, of which the runtime takes the hard one
	MOVQ	SP, SI
	MOVQ	$97, AX
	SYSCALL
	LEAQ	·noFiles(SB), BX
	MOVQ	8(SP), CX
	CMPQ	CX, $const_minFiles
	JCS	fail
	ADDQ	$16, SP
	JMP	_rt0_amd64_linux(SB)
fail:
	MOVQ	$2, DI
	MOVQ	0(BX), SI
	MOVQ	8(BX), DX
	MOVQ	$1, AX // SYS_write
	SYSCALL
	MOVQ	$const_failed, DI
	MOVQ	$231, AX // SYS_exit_group
	SYSCALL
	INT	$3
