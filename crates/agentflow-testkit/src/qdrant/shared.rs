//! What all connections share: the collections, the calls so far, the faults to come.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tonic::{Code, Status};

use super::collection::Kept;

/// Most calls that are remembered.
const MOST_CALLS: usize = 100_000;

/// Something that goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Name of the method, for example `query_batch`.
    pub method: &'static str,
    /// What the caller is told.
    pub code: Code,
    /// Whether the call was executed, so that only the answer is lost.
    pub is_done: bool,
}

pub(super) struct Data {
    pub(super) version: String,
    pub(super) collections: BTreeMap<String, Kept>,
}

impl Data {
    pub(super) fn find(&mut self, name: &str) -> Result<&mut Kept, Status> {
        let none = || Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"));
        self.collections.get_mut(name).ok_or_else(none)
    }
}

pub(super) struct Shared {
    /// Guards the collections; held for one call.
    data: Mutex<Data>,
    calls: Mutex<Vec<&'static str>>,
    faults: Mutex<VecDeque<Fault>>,
}

impl Shared {
    pub(super) fn new(version: String) -> Self {
        Self {
            data: Mutex::new(Data {
                version,
                collections: BTreeMap::new(),
            }),
            calls: Mutex::default(),
            faults: Mutex::default(),
        }
    }

    pub(super) fn calls(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, VecDeque<Fault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a call, or lets it fail as was ordered.
    pub(super) fn answer<Q, A>(
        &self,
        method: &'static str,
        request: Q,
        call: fn(&mut Data, Q) -> Result<A, Status>,
    ) -> Result<A, Status> {
        let mut calls = self.calls();
        if calls.len() < MOST_CALLS {
            calls.push(method);
        }
        drop(calls);
        let fault = {
            let mut faults = self.faults();
            let next = faults.iter().position(|fault| fault.method == method);
            next.and_then(|next| faults.remove(next))
        };
        let failed = |fault: &Fault| Status::new(fault.code, "a fault that the test ordered");
        if let Some(fault) = fault.as_ref().filter(|fault| !fault.is_done) {
            return Err(failed(fault));
        }
        let answer = {
            let mut data = self.data.lock().unwrap_or_else(PoisonError::into_inner);
            call(&mut data, request)
        };
        match fault {
            Some(fault) => Err(failed(&fault)),
            None => answer,
        }
    }
}
