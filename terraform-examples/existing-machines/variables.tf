variable "name" {
  description = "The cluster's name, and with a number that of its machines."
  type        = string
  default     = "metal"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$", var.name))
    error_message = "A name is at most 31 lower case letters, digits and '-' in between, and begins with a letter."
  }
}

variable "kprov" {
  description = "The program: a path, or a name to be found in PATH."
  type        = string
  default     = "kprov"
}

variable "wait" {
  description = "How long nodes may take to be Ready."
  type        = string
  default     = "5m"
}

variable "workers" {
  description = "How many of the listed workers are nodes; null: all. Nodes that go are drained first, the newest first."
  type        = number
  default     = null
}

variable "api_address" {
  description = "A free address of the machines' network, held by one control plane at a time: the API is there."
  type        = string

  validation {
    condition     = can(cidrhost("${var.api_address}/32", 0))
    error_message = "It is an IPv4 address."
  }
}

variable "machines" {
  description = "The machines. One may be taken off the list when it is no node: lower workers first."
  type = list(object({
    address  = string
    role     = string
    user     = optional(string, "root") # or one who may use sudo without a password
    port     = optional(number, 22)
    key_file = optional(string, "") # "": the agent's keys
    host_key = optional(string, "") # "ssh-ed25519 AAAA..."; "": as ~/.ssh/known_hosts says
  }))

  validation {
    condition     = alltrue([for m in var.machines : contains(["control-plane", "worker"], m.role)])
    error_message = "A machine's role is control-plane or worker."
  }
  validation {
    condition     = contains([1, 3, 5, 7], length([for m in var.machines : m if m.role == "control-plane"]))
    error_message = "1, 3, 5 or 7 of the machines are control planes."
  }
  validation {
    condition     = length(distinct([for m in var.machines : m.address])) == length(var.machines)
    error_message = "Every machine has an address of its own."
  }
}
