//! The settings of a terminal: `struct termios` and `struct winsize` of the kernel, as on x86-64.

/// c_iflag: strip the eighth bit of input.
pub const ISTRIP: u32 = 0o40;
/// c_iflag: translate NL to CR on input.
pub const INLCR: u32 = 0o100;
/// c_iflag: ignore CR on input.
pub const IGNCR: u32 = 0o200;
/// c_iflag: translate CR to NL on input.
pub const ICRNL: u32 = 0o400;
/// c_iflag: translate letters to lower case on input, with [`IEXTEN`].
pub const IUCLC: u32 = 0o1000;
/// c_iflag: STOP and START control the output.
pub const IXON: u32 = 0o2000;
/// c_iflag: any character restarts the output.
pub const IXANY: u32 = 0o4000;
/// c_iflag: STOP and START control the input. It has no effect on a pty (LD-33).
pub const IXOFF: u32 = 0o10000;
/// c_iflag: mark errors; an input byte 0xff is stored twice (LD-30).
pub const PARMRK: u32 = 0o10;
/// c_iflag: input is UTF-8: erasing and columns count characters.
pub const IUTF8: u32 = 0o40000;

/// c_oflag: process output.
pub const OPOST: u32 = 0o1;
/// c_oflag: translate letters to upper case on output.
pub const OLCUC: u32 = 0o2;
/// c_oflag: translate NL to CR NL on output.
pub const ONLCR: u32 = 0o4;
/// c_oflag: translate CR to NL on output.
pub const OCRNL: u32 = 0o10;
/// c_oflag: no CR at column 0.
pub const ONOCR: u32 = 0o20;
/// c_oflag: NL does what CR does: it sets the column to 0.
pub const ONLRET: u32 = 0o40;
/// c_oflag: the mask of the delays of tabs.
pub const TABDLY: u32 = 0o14000;
/// c_oflag: expand tabs to spaces; TAB3 of POSIX.
pub const XTABS: u32 = 0o14000;

/// c_cflag: the mask of the size of a character.
pub const CSIZE: u32 = 0o60;
/// c_cflag: characters of eight bits.
pub const CS8: u32 = 0o60;
/// c_cflag: the receiver is enabled.
pub const CREAD: u32 = 0o200;
/// c_cflag: parity.
pub const PARENB: u32 = 0o400;
/// c_cflag: address bit of a multidrop line.
pub const ADDRB: u32 = 0o4000000000;
/// c_cflag: 38,400 bits a second.
pub const B38400: u32 = 0o17;
/// c_cflag: the mask of the speed.
pub const CBAUD: u32 = 0o10017;
/// c_cflag: the speed is the number in `ospeed` or `ispeed`.
pub const BOTHER: u32 = 0o10000;
/// c_cflag: where the speed of input is; 0 there stands for the speed of output.
const CIBAUD_SHIFT: u32 = 16;

/// c_lflag: INTR, QUIT and SUSP generate signals.
pub const ISIG: u32 = 0o1;
/// c_lflag: canonical mode: input is edited and read in lines.
pub const ICANON: u32 = 0o2;
/// c_lflag: echo input.
pub const ECHO: u32 = 0o10;
/// c_lflag: ERASE and WERASE erase on the screen.
pub const ECHOE: u32 = 0o20;
/// c_lflag: echo a NL after KILL.
pub const ECHOK: u32 = 0o40;
/// c_lflag: echo NL also without [`ECHO`].
pub const ECHONL: u32 = 0o100;
/// c_lflag: signals do not flush the queues.
pub const NOFLSH: u32 = 0o200;
/// c_lflag: writes from the background generate SIGTTOU.
pub const TOSTOP: u32 = 0o400;
/// c_lflag: control characters are echoed as `^X`.
pub const ECHOCTL: u32 = 0o1000;
/// c_lflag: erased characters are printed, as on paper.
pub const ECHOPRT: u32 = 0o2000;
/// c_lflag: KILL erases each character on the screen.
pub const ECHOKE: u32 = 0o4000;
/// c_lflag: implementation-defined input processing: WERASE, LNEXT, REPRINT, EOL2, IUCLC.
pub const IEXTEN: u32 = 0o100000;
/// c_lflag: the other end processes input.
pub const EXTPROC: u32 = 0o200000;

/// c_cc: the character that generates SIGINT.
pub const VINTR: usize = 0;
/// c_cc: the character that generates SIGQUIT.
pub const VQUIT: usize = 1;
/// c_cc: the character that erases a character.
pub const VERASE: usize = 2;
/// c_cc: the character that erases the line.
pub const VKILL: usize = 3;
/// c_cc: the end-of-file character.
pub const VEOF: usize = 4;
/// c_cc: the timeout of non-canonical reads, in tenths of a second.
pub const VTIME: usize = 5;
/// c_cc: the number of bytes of a non-canonical read.
pub const VMIN: usize = 6;
/// c_cc: the character that restarts output.
pub const VSTART: usize = 8;
/// c_cc: the character that stops output.
pub const VSTOP: usize = 9;
/// c_cc: the character that generates SIGTSTP.
pub const VSUSP: usize = 10;
/// c_cc: a further end of a line.
pub const VEOL: usize = 11;
/// c_cc: the character that prints the unfinished line again.
pub const VREPRINT: usize = 12;
/// c_cc: the character that erases a word.
pub const VWERASE: usize = 14;
/// c_cc: the character that quotes the next one.
pub const VLNEXT: usize = 15;
/// c_cc: a further end of a line.
pub const VEOL2: usize = 16;

/// The value of a c_cc entry that matches no character (LD-03).
pub const DISABLED: u8 = 0;

/// The settings of a terminal: `struct ktermios` of the kernel, `struct termios2` of ioctl_tty(2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Termios {
    /// Input modes.
    pub iflag: u32,
    /// Output modes.
    pub oflag: u32,
    /// Control modes.
    pub cflag: u32,
    /// Local modes.
    pub lflag: u32,
    /// The number of the line discipline as it was set; it has no effect (LD-12).
    pub line: u8,
    /// Special characters, by [`VINTR`] and the other indices.
    pub cc: [u8; 19],
    /// The input speed, in bits a second.
    pub ispeed: u32,
    /// The output speed, in bits a second.
    pub ospeed: u32,
}

impl Default for Termios {
    /// The settings of a new pty (LD-01, LD-02).
    fn default() -> Termios {
        Termios {
            iflag: ICRNL | IXON,
            oflag: OPOST | ONLCR,
            cflag: CREAD | CS8 | B38400,
            lflag: ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
            line: 0,
            cc: [
                0x03, 0x1c, 0x7f, 0x15, 0x04, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0x0f, 0x17, 0x16,
                0, 0, 0,
            ],
            ispeed: 38_400,
            ospeed: 38_400,
        }
    }
}

impl Termios {
    /// The settings of cfmakeraw(3): no editing, no echo, no signals, no processing of output.
    pub fn raw(mut self) -> Termios {
        const IGNBRK: u32 = 0o1;
        const BRKINT: u32 = 0o2;
        self.iflag &= !(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
        self.oflag &= !OPOST;
        self.lflag &= !(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
        self.cflag = self.cflag & !(CSIZE | PARENB) | CS8;
        self
    }

    /// `struct termios2` of x86-64, as TCGETS2 stores it.
    pub fn to_bytes(&self) -> [u8; 44] {
        let mut bytes = [0; 44];
        let flags = [self.iflag, self.oflag, self.cflag, self.lflag];
        for (to, flag) in bytes.chunks_exact_mut(4).zip(flags) {
            to.copy_from_slice(&flag.to_le_bytes());
        }
        bytes[16] = self.line;
        bytes[17..36].copy_from_slice(&self.cc);
        bytes[36..40].copy_from_slice(&self.ispeed.to_le_bytes());
        bytes[40..].copy_from_slice(&self.ospeed.to_le_bytes());
        bytes
    }

    /// The settings in a `struct termios2` of x86-64, as TCSETS2 takes it.
    ///
    /// ```
    /// # use proctable::tty::Termios;
    /// assert_eq!(Termios::from_bytes(&Termios::default().to_bytes()), Termios::default());
    /// ```
    pub fn from_bytes(bytes: &[u8; 44]) -> Termios {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut cc = [0; 19];
        cc.copy_from_slice(&bytes[17..36]);
        let (line, ispeed, ospeed) = (bytes[16], word(36), word(40));
        let (iflag, oflag, cflag, lflag) = (word(0), word(4), word(8), word(12));
        Termios { iflag, oflag, cflag, lflag, line, cc, ispeed, ospeed }
    }

    /// What the kernel makes of the settings (LD-11, LD-14, `set_termios`, `pty_set_termios`).
    pub(super) fn enforced(mut self) -> Termios {
        let ospeed = speed(self.cflag & CBAUD).unwrap_or(self.ospeed);
        self.ispeed = match self.cflag >> CIBAUD_SHIFT & CBAUD {
            0 => ospeed,
            code => speed(code).unwrap_or(self.ispeed),
        };
        self.ospeed = ospeed;
        self.cflag = self.cflag & !(CSIZE | PARENB | ADDRB) | CS8 | CREAD;
        self
    }

    pub(super) fn input(&self, flag: u32) -> bool {
        self.iflag & flag != 0
    }

    pub(super) fn output(&self, flag: u32) -> bool {
        self.oflag & flag != 0
    }

    pub(super) fn local(&self, flag: u32) -> bool {
        self.lflag & flag != 0
    }

    /// Whether the terminal edits lines, and reads return lines (LD-88).
    pub(super) fn reads_lines(&self) -> bool {
        self.local(ICANON) && !self.local(EXTPROC)
    }

    /// Whether the other end may interpret ^S and ^Q itself (LD-176).
    pub(super) fn has_standard_flow_control(&self) -> bool {
        self.input(IXON) && self.cc[VSTOP] == 0x13 && self.cc[VSTART] == 0x11
    }
}

/// The bits a second of a speed in `cflag`; `None` for BOTHER, which leaves it to `ispeed` or
/// `ospeed` (`tty_termios_baud_rate`).
fn speed(code: u32) -> Option<u32> {
    const SPEEDS: [u32; 31] = [
        0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400,
        57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000,
        1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
    ];
    match code {
        BOTHER => None,
        code if code & BOTHER != 0 => Some(SPEEDS[15 + (code & !BOTHER) as usize]),
        code => Some(SPEEDS[code as usize]),
    }
}

/// The size of a window, in characters and in pixels: `struct winsize` of ioctl_tty(2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Winsize {
    /// Rows of characters.
    pub rows: u16,
    /// Columns of characters.
    pub cols: u16,
    /// The width in pixels.
    pub xpixel: u16,
    /// The height in pixels.
    pub ypixel: u16,
}

impl Winsize {
    /// A window of that many rows and columns; its size in pixels is not known.
    pub fn new(rows: u16, cols: u16) -> Winsize {
        Winsize { rows, cols, ..Winsize::default() }
    }
}
