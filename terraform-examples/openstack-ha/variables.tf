variable "name" {
  description = "The cluster's name, and with a number that of its machines."
  type        = string
  default     = "lab"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$", var.name))
    error_message = "A name is at most 31 lower case letters, digits and '-' in between, and begins with a letter."
  }
}

variable "workers" {
  description = "Worker machines. Another number changes the cluster as it runs; nodes that go are drained first."
  type        = number
  default     = 2

  validation {
    condition     = var.workers >= 0 && var.workers <= 100 && floor(var.workers) == var.workers
    error_message = "Workers are a whole number from 0 to 100."
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
  default     = "10m"
}

variable "control_planes" {
  description = "Control planes: an odd number, of which fewer than half may be lost."
  type        = number
  default     = 3

  validation {
    condition     = contains([1, 3, 5, 7], var.control_planes)
    error_message = "Control planes are 1, 3, 5 or 7."
  }
}

variable "control_plane_type" {
  description = "Flavor of control planes; \"\": kprov's choice."
  type        = string
  default     = ""
}

variable "worker_type" {
  description = "Flavor of workers; \"\": kprov's choice."
  type        = string
  default     = ""
}

variable "zones" {
  description = "Availability zones that machines are spread over; none: the cloud's choice."
  type        = list(string)
  default     = []
}

variable "cloud" {
  description = "Which cloud of clouds.yaml; \"\": what OS_CLOUD or the other OS_* variables say."
  type        = string
  default     = ""
}

variable "region" {
  description = "Region; \"\": what the environment or clouds.yaml says."
  type        = string
  default     = ""
}

variable "network" {
  description = "Name or id of a network that is there, with a subnet; \"\": one of the cluster's own."
  type        = string
  default     = ""
}

variable "external_network" {
  description = "Name or id of the network that public addresses come from; \"\": the only one there is."
  type        = string
  default     = ""
}

variable "api_endpoint" {
  description = "loadBalancer, or virtualAddress where the cloud has no Octavia; \"\": a load balancer."
  type        = string
  default     = ""

  validation {
    condition     = contains(["", "loadBalancer", "virtualAddress"], var.api_endpoint)
    error_message = "The API's endpoint is loadBalancer or virtualAddress."
  }
}
