//! Intel's library for many buffers (`libipsec-mb`), where it is installed: ChaCha20-Poly1305 with AVX-512.
//!
//! It is opened while we run, so nothing needs it.  What we touch of its structures is their beginning,
//! which is the same in versions 1.1 to 2.0.2; another version is not used.
//!
//! ```text
//! manager:  56 architecture u32   60 errno i32   64 get_next_job   72 submit_job   96 flush_job
//! job:      0 key to seal   8 key to open   16 its length   24 from   32 to   40 begin   48 length
//!           56 begin   64 length   72 nonce   80 its length   88 tag   96 its length
//!           104 additional data   112 its length   128 status   132 cipher   136 direction
//!           140 authenticator   144 order
//! ```
//!
//! Source: intel-ipsec-mb lib/intel-ipsec-mb.h, `IMB_MGR`, `IMB_JOB`; lib/x86_64/chacha20_poly1305.c.

use std::ffi::{CStr, c_void};
use std::mem::offset_of;
use std::ptr::{self, NonNull};

use super::library;

const NAMES: [&CStr; 2] = [c"libIPSec_MB.so.2", c"libIPSec_MB.so.1"];
const VERSIONS: std::ops::Range<u32> = 0x1_01_00..0x2_01_00; // major, minor, patch: a byte each

const CHACHA20_POLY1305: (u32, u32) = (19, 29); // as cipher and as authenticator
const COMPLETED: u32 = 3;

/// What is done, and in which order: the tag is of the ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Encrypt, then authenticate.
    Seal,
    /// Authenticate, then decrypt.
    Open,
}

#[repr(C)]
struct Job {
    seal_key: *const u8,
    open_key: *const u8,
    key_len: u64,
    src: *const u8,
    dst: *mut u8,
    cipher_start: u64,
    cipher_len: u64,
    hash_start: u64,
    hash_len: u64,
    nonce: *const u8,
    nonce_len: u64,
    tag: *mut u8,
    tag_len: u64,
    aad: *const u8,
    aad_len: u64,
    context: *mut c_void,
    status: u32,
    cipher: u32,
    direction: u32,
    hash: u32,
    order: u32,
}

const _: () = assert!(offset_of!(Job, tag_len) == 96 && offset_of!(Job, order) == 144);

type Step = unsafe extern "C" fn(*mut Head) -> *mut Job;

#[repr(C)]
struct Head {
    flags: u64,
    features: u64,
    reserved: [u64; 5],
    architecture: u32,
    errno: i32,
    get_next_job: Option<Step>,
    submit_job: Option<Step>,
    submit_job_nocheck: Option<Step>,
    get_completed_job: Option<Step>,
    flush_job: Option<Step>,
}

const _: () = assert!(offset_of!(Head, flush_job) == 96);

/// The library, opened; it stays so.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    version: u32,
    alloc: unsafe extern "C" fn(u64) -> *mut Head,
    init: unsafe extern "C" fn(*mut Head, *mut u32),
    free: unsafe extern "C" fn(*mut Head),
}

impl Library {
    /// Look for it.
    ///
    /// # Errors
    /// It is not there, or is a version we do not know; in words.
    pub fn open() -> Result<Self, String> {
        if !cfg!(target_arch = "x86_64") {
            return Err("libipsec-mb is for x86-64".to_owned());
        }
        let library = NAMES
            .iter()
            .find_map(|name| library::open(name))
            .ok_or("libipsec-mb is not installed")?;
        let symbol = |name: &CStr| {
            library::symbol(library, name).ok_or_else(|| format!("libipsec-mb has no {name:?}"))
        };
        // SAFETY: these are the functions' types in every version that has them.
        let (version, alloc, init, free) = unsafe {
            use std::mem::transmute;
            (
                transmute::<NonNull<c_void>, unsafe extern "C" fn() -> u32>(symbol(
                    c"imb_get_version",
                )?),
                transmute::<NonNull<c_void>, unsafe extern "C" fn(u64) -> *mut Head>(symbol(
                    c"alloc_mb_mgr",
                )?),
                transmute::<NonNull<c_void>, unsafe extern "C" fn(*mut Head, *mut u32)>(symbol(
                    c"init_mb_mgr_auto",
                )?),
                transmute::<NonNull<c_void>, unsafe extern "C" fn(*mut Head)>(symbol(
                    c"free_mb_mgr",
                )?),
            )
        };
        // SAFETY: it takes nothing and returns a constant.
        let version = unsafe { version() };
        let found = Self {
            version,
            alloc,
            init,
            free,
        };
        if VERSIONS.contains(&version) {
            Ok(found)
        } else {
            let found = found.version();
            Err(format!("libipsec-mb {found} is not one we know"))
        }
    }

    /// As `1.3.0`.
    pub fn version(&self) -> String {
        let [_, major, minor, patch] = self.version.to_be_bytes();
        format!("{major}.{minor}.{patch}")
    }
}

/// The state of the library for one thread at a time; 200 KB.
pub struct Manager {
    head: NonNull<Head>,
    get_next_job: Step,
    submit_job: Step,
    flush_job: Step,
    free: unsafe extern "C" fn(*mut Head),
}

// SAFETY: the library's state is all in the manager; it does not care which thread it is called from.
unsafe impl Send for Manager {}

impl Manager {
    /// A new one; `None` without memory, or where the library does not like the processor.
    pub fn new(library: &Library) -> Option<Self> {
        // SAFETY: flags of 0 ask for nothing special; null is looked for.
        let head = NonNull::new(unsafe { (library.alloc)(0) })?;
        let mut architecture = 0;
        // SAFETY: it was just made, and nobody else has it; the result has a place.
        unsafe { (library.init)(head.as_ptr(), &raw mut architecture) };
        // SAFETY: its beginning has this layout in every version that `Library::open` lets through.
        let begun = unsafe { head.as_ref() };
        let steps = (begun.get_next_job, begun.submit_job, begun.flush_job);
        let free = library.free;
        let (0, (Some(get_next_job), Some(submit_job), Some(flush_job))) = (begun.errno, steps)
        else {
            // SAFETY: made by the same library, used no more.
            unsafe { free(head.as_ptr()) };
            return None;
        };
        Some(Self {
            head,
            get_next_job,
            submit_job,
            flush_job,
            free,
        })
    }

    /// Encrypt or decrypt `data` in place; the tag of its ciphertext.  `None`: nothing was done.
    pub fn run(
        &mut self,
        direction: Direction,
        key: &[u8; 32],
        nonce: &[u8; 12],
        data: &mut [u8],
    ) -> Option<[u8; 16]> {
        let mut tag = [0; 16];
        let len = data.len() as u64;
        let manager = self.head.as_ptr();
        // SAFETY: the manager is alive and `&mut self` makes its use exclusive.  The job is the
        // library's own, its first fields have this layout, and no other job is under way: the last
        // one was waited for.  Key, nonce, data and tag outlive the call, at whose end the library has
        // done with them; it reads and writes no further than the lengths say.
        let status = unsafe {
            let job = (self.get_next_job)(manager);
            if job.is_null() {
                return None;
            }
            (*job).seal_key = key.as_ptr();
            (*job).open_key = key.as_ptr();
            (*job).key_len = 32;
            (*job).src = data.as_ptr();
            (*job).dst = data.as_mut_ptr();
            (*job).cipher_start = 0;
            (*job).cipher_len = len;
            (*job).hash_start = 0;
            (*job).hash_len = len;
            (*job).nonce = nonce.as_ptr();
            (*job).nonce_len = 12;
            (*job).tag = tag.as_mut_ptr();
            (*job).tag_len = 16;
            (*job).aad = ptr::null();
            (*job).aad_len = 0;
            (*job).context = ptr::null_mut();
            ((*job).cipher, (*job).hash) = CHACHA20_POLY1305;
            (*job).direction = if direction == Direction::Seal { 1 } else { 2 };
            (*job).order = (*job).direction;
            if (self.submit_job)(manager).is_null() {
                (self.flush_job)(manager);
            }
            (*job).status
        };
        (status == COMPLETED).then_some(tag)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // SAFETY: made by the same library, used no more.
        unsafe { (self.free)(self.head.as_ptr()) };
    }
}
